"""Any Hugging Face model as a scorer: it is asked one question at a time, in words of its own."""
