"""How good a version is: its predictions on labelled rows, metrics, slices, the accuracy of a night, differences."""
