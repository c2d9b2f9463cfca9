"""An executable reproduction of Prasanna, Rogers & Rumshisky (2020), "When BERT Plays the Lottery".

Modules follow the paper: `tasks`, `grammar`, `data` (what BERT is asked), `encoders`, `loading`,
`anatomy`, `shape` (BERT and its relatives), `batches`, `training`, `scoring`, `baselines`
(fine-tuning, section 3.1, and what to hold it against), `gates`, `importance`, `structured`
(section 3.3), `magnitude` (section 3.2), `subnetworks` (good, random and bad, section 4.2),
`presets`, `settings`, `store`, `experiment` (how it is run and kept), `results`, `findings`,
`tables`, `figures`, `pages` (how it is told), `cli` (the command `lottery`) and `errors`.
"""

__version__ = "0.1.0"
