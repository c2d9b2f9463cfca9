"""An executable reproduction of Prasanna, Rogers & Rumshisky (2020), "When BERT Plays the Lottery".

Modules follow the paper: `tasks`, `grammar`, `data` (what BERT is asked), `encoders` (BERT and its
relatives), `batches`, `training`, `scoring` (fine-tuning, section 3.1), `gates`, `importance`,
`structured` (section 3.3), `magnitude` (section 3.2), `subnetworks` (good, random and bad, section
4.2), `presets`, `store`, `experiment`, `results`, `figures` (how it is run, kept and shown).
"""

__version__ = "0.1.0"
