"""Names of findings and tubes in public sets -> label columns, one name for one thing.

Names that look alike and mean different things stay apart: "nodule/mass" of VinDr-CXR is neither
"nodule" nor "mass", and "support devices" of CheXpert is no tube in particular.
"""

import re

FINDINGS = {
    "pleural_effusion": "effusion",
    "pulmonary_edema": "edema",
    "oedema": "edema",
    "pulmonary_nodule": "nodule",
    "lung_mass": "mass",
    "pulmonary_mass": "mass",
    "pulmonary_emphysema": "emphysema",
    "pulmonary_fibrosis": "fibrosis",
    "pulmonary_atelectasis": "atelectasis",
    "infiltrate": "infiltration",
    "infiltrates": "infiltration",
    "hernia_hiatal": "hiatal_hernia",
    "normal": "no_finding",
    "nodule_mass": "nodule_or_mass",
    "enlarged_pa": "enlarged_pulmonary_artery",
    "ild": "interstitial_lung_disease",
    "other_diseases": "other_disease",
}

TUBES = {
    "support_devices": "support_device",
    "endotracheal_tube": "ett",
    "ett": "ett",
    "ng_tube": "ngt",
    "nsg_tube": "ngt",
    "ngt": "ngt",
    "central_venous_catheter": "cvc",
    "central_venous_catheter_via_jugular_vein": "cvc",
    "central_venous_catheter_via_subclavian_vein": "cvc",
    "central_venous_catheter_via_umbilical_vein": "cvc",
    "cvc": "cvc",
    "reservoir_central_venous_catheter": "cvc",
    "chest_drain_tube": "chest_tube",
    "chest_tube": "chest_tube",
    "swan_ganz_catheter": "swan_ganz",
    "tracheostomy_tube": "tracheostomy",
    "pacemaker": "pacemaker",
    "dual_chamber_device": "pacemaker",
    "single_chamber_device": "pacemaker",
    "catheter": "any_catheter",
    "catheters_indwelling": "any_catheter",
    "tube_inserted": "any_tube",
    "electrical_device": "electrical_device",
}
"""Name as a slug -> what follows ``tube_``. Everything else is a finding."""


def slug(name: str) -> str:
    """``"Nodule/Mass"`` -> ``"nodule_mass"``."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def column_of(name: str) -> str:
    """``"Pleural Effusion"`` -> ``"finding_effusion"``; ``"NSG tube"`` -> ``"tube_ngt"``."""
    plain = slug(name)
    if plain in TUBES:
        return f"tube_{TUBES[plain]}"
    return f"finding_{FINDINGS.get(plain, plain)}"
