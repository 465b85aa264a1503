"""Skills: what a question needs, and who has shown to have it. Imports nothing of ours."""
