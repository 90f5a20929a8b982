"""The steps: training, jobs between trainings, statistics, language models."""
