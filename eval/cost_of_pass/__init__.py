"""Cost-of-pass: dollars for one correct answer, from few runs, with intervals, over time."""
