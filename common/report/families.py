"""Families of claims that tutorials on image recognition make, and the experiments that test them."""

FAMILIES = {
    "Chance, published networks": ("00", "01"),
    "Loss functions": ("02", "24", "25", "26"),
    "Wrong labels, rare classes": ("22", "23"),
    "Optimizers": ("09", "12", "38"),
    "Learning rate": ("10", "11"),
    "Gradients": ("13", "14"),
    "Regularisation": ("03", "04", "05", "06", "20", "28"),
    "Augmentation": ("07", "08", "32", "39"),
    "Architecture": ("15", "16", "17", "18", "19"),
    "Preprocessing, robustness": ("21", "37"),
    "Features": ("27", "29"),
    "Search, recipes, calibration": ("33", "34", "36"),
    "Speed": ("30", "31", "35"),
}
"""Family -> numbers of its experiments."""
