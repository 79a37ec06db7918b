"""What the package costs, measured; run at the root of the repository.

python -m benchmarks all --quick --out suite.json      # time, memory and operations of every part; a table, a picture
python -m benchmarks compare before.json after.json    # what became slower or heavier
python -m benchmarks.studies.transforms --out …        # a question of its own (one file each)
python benchmarks/tune_filters.py enkf-hr …            # tuning of filters
python -m benchmarks.accelerator OUT MINUTES           # a queue of trainings for an accelerator
python -m experiments.tables                           # writes README.md here from the records in results/
"""
