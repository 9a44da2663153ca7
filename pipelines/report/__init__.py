"""Look at a run folder: `report`, `explain`, `doctor`; one self-contained page, and the dataset card."""
