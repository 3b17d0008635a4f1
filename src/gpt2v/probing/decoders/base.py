from typing import Any
Decoder = Any
Fitted = Any
