"""Statistics of questions about pictures.

`shared` holds what questions have in common, and so how uncertain a mean is; `intervals` are those
of rates and of differences, with p-values; `student` widens them where groups are few.
"""
