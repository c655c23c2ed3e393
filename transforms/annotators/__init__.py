"""What computes a task on a loaded model, one file a task; imported when the task is loaded."""
