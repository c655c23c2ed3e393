"""The code that computes a task on a loaded model, one file per task; imported when the task is loaded."""
