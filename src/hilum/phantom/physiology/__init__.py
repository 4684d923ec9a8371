"""ECG and laboratory values of phantom patients, planted so that heart, lungs, infection and kidneys show in both.

`effects` is the table of what is planted, `state` draws it for a study, `body` shows it in the images, `ecg` and
`laboratory` in the signals. This folder has a frozen hash of its own (`freeze.py`): without it the phantom is as it
was.
"""
