"""An executable reproduction of Prasanna, Rogers & Rumshisky (2020), "When BERT Plays the Lottery".

The modules beside this file are the paper, in its order:

* what BERT is asked, and what it is made of: `tasks`, `encoder`, `batches`, `scoring`;
* fine-tuning and retraining (section 3.1): `finetuning`; what a retraining starts from:
  `runs.experiment`;
* magnitude pruning (3.2): `magnitude`;
* structured pruning (3.3): `gates`, `importance`, `structured`;
* good, random and bad subnetworks, and super-survivors (4.2): `subnetworks`, `super_survivors`;
* what scores are worth (4.3), and heads taken out one by one: `baselines`, `ablation`;
* are good subnetworks stable (5.1): `agreement`;
* what their heads attend to (5.2): `attention`, `patterns`, `pattern_cnn`, `heterogeneity`;
* what tasks share (5.3): `overlap`;
* beyond the paper: `tickets` (every subnetwork of whole blocks), `export` (a model to take away).

Four rooms serve them: `data` (where texts, weights and labelled maps come from), `fast` (speed
behind a narrow interface), `runs` (how it is run and kept), `report` (how it is told). `cli` is the
command `lottery`, `commands` what it does, `errors` what it says. Imports only go down.
"""

__version__ = "0.1.0"
