"""The main job, end to end, as a user would do it: over HTTP with the stock `openai` package."""
