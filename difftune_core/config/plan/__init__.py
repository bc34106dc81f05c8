"""What a job will need, before any of it starts. Pydantic only: the API plans, and so does whoever runs by hand."""
