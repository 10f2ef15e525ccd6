"""Riverside's reports: full sentences, American spelling."""

from radsweep.corpus.phantom.wording import Bank, Phrases, frozen

BANK = Bank(
    findings=frozen(
        cardiomegaly=Phrases(
            positive=(
                "The heart is {degree}ly enlarged.",
                "{Degree} cardiomegaly.",
                "The cardiac silhouette is enlarged.",
            ),
            reserved_positive=(
                "Heart size is above normal limits.",
                "There is {degree} enlargement of the heart.",
            ),
            negative=(
                "Heart size is normal.",
                "The cardiac silhouette is within normal limits.",
                "No cardiomegaly.",
            ),
            reserved_negative=("The heart is not enlarged.",),
            uncertain=(
                "The heart may be mildly enlarged.",
                "Possible borderline cardiomegaly.",
            ),
            reserved_uncertain=("Cardiac enlargement cannot be excluded.",),
            impression=("Cardiomegaly.", "Enlarged heart."),
        ),
        effusion=Phrases(
            positive=(
                "{Size} {side} pleural effusion.",
                "There is a {size} {side} effusion.",
                "Blunting of the {side} costophrenic angle from a {size} effusion.",
            ),
            reserved_positive=(
                "{Size} amount of {side} pleural fluid.",
                "{Side} basilar pleural fluid is present.",
            ),
            negative=(
                "No pleural effusion.",
                "The costophrenic angles are sharp.",
                "No effusion is seen.",
            ),
            reserved_negative=("There is no pleural fluid.",),
            uncertain=(
                "Possible trace {side} pleural effusion.",
                "A small {side} effusion cannot be excluded.",
            ),
            reserved_uncertain=("Questionable {side} pleural fluid.",),
            impression=("{Side} pleural effusion.", "{Size} {side} effusion."),
        ),
        pneumothorax=Phrases(
            positive=(
                "There is a {size} {side} pneumothorax.",
                "{Size} {side} apical pneumothorax.",
                "{Side} pneumothorax with a visible pleural line.",
            ),
            reserved_positive=(
                "Air is present in the {side} pleural space.",
                "The {side} lung is partly collapsed by pleural air.",
            ),
            negative=(
                "No pneumothorax.",
                "No pneumothorax is seen.",
                "There is no evidence of pneumothorax.",
            ),
            reserved_negative=("No pleural air.",),
            uncertain=(
                "A tiny {side} pneumothorax cannot be excluded.",
                "Possible {side} apical pneumothorax.",
            ),
            reserved_uncertain=("Questionable {side} apical pleural line.",),
            impression=("{Side} pneumothorax.", "{Size} {side} pneumothorax."),
        ),
        nodule=Phrases(
            positive=(
                "A {side} {zone} zone pulmonary nodule is noted.",
                "Rounded nodular density in the {side} {zone} lung.",
                "There is a nodule in the {side} {zone} lung.",
            ),
            reserved_positive=("Focal round opacity, {side} {zone} lung.",),
            negative=(
                "No suspicious nodule.",
                "No pulmonary nodule is seen.",
                "No nodule or mass.",
            ),
            reserved_negative=("There is no focal nodular density.",),
            uncertain=(
                "Possible nodule in the {side} {zone} lung.",
                "A {side} {zone} zone nodule cannot be excluded.",
            ),
            reserved_uncertain=("Questionable nodular density, {side} {zone} lung.",),
            impression=("{Side} lung nodule.", "Nodule in the {side} lung."),
        ),
        consolidation=Phrases(
            positive=(
                "There is airspace opacity in the {side} {zone} lung.",
                "{Side} {zone} zone consolidation.",
                "Consolidation in the {side} {zone} lung, suspicious for pneumonia.",
            ),
            reserved_positive=(
                "Patchy infiltrate in the {side} {zone} lung.",
                "The {side} {zone} lung is opacified.",
            ),
            negative=(
                "No focal consolidation.",
                "No focal airspace disease.",
                "No consolidation is seen.",
            ),
            reserved_negative=("There is no infiltrate.",),
            uncertain=(
                "Possible early consolidation in the {side} lung.",
                "Developing {side} airspace disease cannot be excluded.",
            ),
            reserved_uncertain=("Questionable {side} {zone} infiltrate.",),
            impression=("{Side} lung consolidation.", "Pneumonia in the {side} lung."),
        ),
        edema=Phrases(
            positive=(
                "{Degree} perihilar haze in keeping with pulmonary edema.",
                "{Degree} pulmonary edema.",
                "Vascular congestion and interstitial edema.",
            ),
            reserved_positive=("Findings of {degree} fluid overload.",),
            negative=(
                "Pulmonary vascularity is normal.",
                "No pulmonary edema.",
                "No vascular congestion.",
            ),
            reserved_negative=("There is no sign of fluid overload.",),
            uncertain=(
                "Possible mild vascular congestion.",
                "Early edema cannot be excluded.",
            ),
            reserved_uncertain=("Questionable fluid overload.",),
            impression=("Pulmonary edema.", "{Degree} pulmonary edema."),
        ),
        atelectasis=Phrases(
            positive=(
                "Linear atelectasis at the {side} base.",
                "{Side} basilar atelectasis.",
                "Platelike atelectasis in the {side} lower lung.",
            ),
            reserved_positive=("Bandlike volume loss at the {side} base.",),
            negative=("No atelectasis.", "The lung bases are clear of atelectasis."),
            reserved_negative=("There is no basilar volume loss.",),
            uncertain=(
                "Possible {side} basilar atelectasis.",
                "Minimal {side} basal atelectasis cannot be excluded.",
            ),
            reserved_uncertain=("Questionable volume loss at the {side} base.",),
            impression=("{Side} basilar atelectasis.", "Atelectasis at the {side} base."),
        ),
    ),
    tubes={
        ("ett", "normal"): (
            "Endotracheal tube tip is {cm} cm above the carina.",
            "ET tube ends {cm} cm above the carina.",
        ),
        ("ett", "low"): (
            "Endotracheal tube is low, {cm} cm above the carina.",
            "ET tube tip lies just above the carina.",
        ),
        ("ett", "high"): (
            "Endotracheal tube is high, at the thoracic inlet.",
            "ET tube tip lies above the clavicles.",
        ),
        ("ett", "right_main_bronchus"): (
            "Endotracheal tube tip is in the right main bronchus.",
            "ET tube ends beyond the carina on the right.",
        ),
        ("ngt", "stomach"): (
            "Nasogastric tube tip is in the stomach.",
            "Enteric tube ends below the left diaphragm.",
        ),
        ("ngt", "oesophagus"): (
            "Nasogastric tube tip is in the esophagus.",
            "Enteric tube ends above the diaphragm.",
        ),
        ("cvc", "svc"): (
            "{Side} {route} central line tip is in the SVC.",
            "{Side} {route} catheter ends in the superior vena cava.",
        ),
        ("cvc", "atrium"): (
            "{Side} {route} central line tip is in the right atrium.",
            "{Side} {route} catheter ends in the atrium.",
        ),
        ("cvc", "azygos"): (
            "{Side} {route} central line tip is in the azygos vein.",
            "{Side} {route} catheter turns into the azygos.",
        ),
        ("chest_tube", "apical"): (
            "{Side} chest tube tip is at the apex.",
            "{Side} thoracostomy tube ends at the apex.",
        ),
        ("chest_tube", "basal"): (
            "{Side} chest tube tip is at the base.",
            "{Side} thoracostomy tube ends at the base.",
        ),
    },
    malposition={
        "ett": "Malpositioned endotracheal tube.",
        "ngt": "Nasogastric tube should be advanced.",
        "cvc": "Malpositioned central line.",
    },
    no_tubes=("No lines or tubes.", "No support devices are seen."),
    clear_lungs=("The lungs are clear.", "Both lungs are clear."),
    clear_pleura=("No pleural effusion or pneumothorax.", "No effusion or pneumothorax."),
    normal=(
        "No acute cardiopulmonary abnormality.",
        "Normal chest radiograph.",
        "No acute disease.",
    ),
    as_above=("As above.", "Please see the findings."),
    gaps=(
        "Comparison XXXX.",
        "XXXX is unchanged.",
        "Discussed with XXXX at XXXX.",
        "Degenerative changes of the XXXX.",
    ),
    views={"PA": "Chest, PA", "AP": "Chest, AP portable", "LL": "lateral"},
)
