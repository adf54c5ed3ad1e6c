"""Questions to the log. Reads only; knows nothing of HTTP."""
