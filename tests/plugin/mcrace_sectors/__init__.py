"""A task, an observable and a prediction from outside of mcrace."""
