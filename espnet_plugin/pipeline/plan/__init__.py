"""What is to be done: configuration, stages, their order, budget, inputs, options."""
