"""An executable reproduction of Prasanna, Rogers & Rumshisky (2020), "When BERT Plays the Lottery".

Modules follow the paper: `tasks`, `lexicon`, `grammar`, `data` (what BERT is asked), `encoders`,
`loading`, `anatomy`, `shape` (BERT and its relatives), `batches`, `dense`, `unpadded`,
`vocabulary`, `training`, `scoring`, `baselines` (fine-tuning, section 3.1, and what to hold it
against), `gates`, `importance`, `ablation`, `structured` (section 3.3), `magnitude` (section 3.2),
`subnetworks` (good, random and bad, section 4.2), `super_survivors`, `methods`, `searches` (every
way of finding a good one), `stability` (section 5.1), `attention`, `patterns`, `pattern_cnn`,
`labelled_maps`, `pattern_quality`, `pattern_counts`, `heterogeneity` (section 5.2), `task_overlap`
(section 5.3), `presets`, `settings`, `store`, `experiment`, `cells`, `running` (how it is run and
kept), `results`, `findings`, `comparisons`, `tables`, `figures`, `pages`, `published`, `overview`
(how it is told), `paper`, `imported`, `audit`, `inventory` (what the authors report and released),
`cli` (the command `lottery`) and `errors`.
"""

__version__ = "0.1.0"
