"""The demo's "open weights", pretrained on another hospital as MedImageInsight and RAD-DINO were.

They come along in ``jobs/weights``. To rebuild them (a few minutes on two CPU cores)::

    export RADSWEEP_PATIENT_KEY="radsweep open weights"    # no secret: nobody is behind these films
    radsweep phantom northside --hospital northside --patients 2400 --size 96
    radsweep ingest northside/dicom --reports northside/reports.csv \
        --labels northside/labels.csv --masks northside/masks.csv --size 96 \
        --fractions 0.97,0.01,0.01,0.01 --corpus northside@1 --store STORE
    radsweep run open_weights --store STORE --cpus 0.5 --stream-cpus 0.5 --at-once 2
    radsweep export CELL jobs/weights/unicl --to radsweep --store STORE    # and the same for dinov2

`northside` is a chest clinic with other scanners and other words than the demo's hospital, and with
hardly any tubes. Like MedImageInsight, the image-text weights are made by UniCL, from reports and
labels. Sizes and recipes are ours, found by trying what a tiny encoder learns in minutes: no
published recipe is meant for half a million parameters.
"""

from radsweep import Budget, Recipe, Sweep, settings

IMAGE_SIZE = 96
SHIPPED = "package:radsweep.jobs/weights"

UNICL = Recipe(
    paradigm="unicl",
    encoder="resnet10t",
    # Batch normalisation is what lets an encoder learn in hundreds of steps: ConvNeXts and ViTs as
    # small were tried, and hardly began to tell one tube from another.
    encoder_settings=settings({"channels": "12,24,48,128", "stem_width": 4, "in_chans": 1}),
    image_size=IMAGE_SIZE,
    learning_rate=3e-3,
    settings=settings(
        {
            "embed_dim": 128,
            "text_width": 64,
            "text_layers": 1,
            "text_heads": 4,
            # The impression and a few sentences: a whole report costs as much as the image.
            "text_length": 32,
            "vocabulary_size": 1000,
            # With the end token, all texts look alike at first, and a tower this small stays there.
            "text_pooling": "mean",
            "text_policy": "impression_first",
            "temperature": 0.1,
            "jitter": 0.1,
            "label_share": 0.5,
            "label_policy": "set",
        }
    ),
)

DINOV2 = Recipe(
    paradigm="dinov2",
    encoder="vit_tiny_patch16_224",
    encoder_settings=settings(
        {
            "patch_size": 16,
            "embed_dim": 96,
            "depth": 4,
            "num_heads": 4,
            "in_chans": 1,
            "weight_init": "jax",
        }
    ),
    image_size=IMAGE_SIZE,
    learning_rate=1e-3,
    settings=settings(
        {
            # Small crops and mild changes: stronger ones drift to the uniform target at this
            # batch size.
            "global_size": 64,
            "local_size": 32,
            "local_crops": 2,
            "global_scale_min": 0.6,
            "local_scale_min": 0.25,
            "local_scale_max": 0.6,
            "jitter": 0.15,
            "blur": 0.0,
            "teacher_temperature": 0.05,
            # Small batches collapse with 65,536 prototypes and centring.
            "prototypes": 128,
            "head_layers": 2,
            "head_hidden": 256,
            "head_bottleneck": 64,
            "head_batch_norm": True,
            "targets": "sinkhorn",
            "teacher_momentum": 0.98,
            "koleo_weight": 0.0,
            "freeze_last_layer": 0.0,
            "patch_embed_learning_rate_scale": 1.0,
        }
    ),
)

SWEEP = Sweep(
    name="open-weights",
    corpus="northside@1",
    recipes=(UNICL, DINOV2),
    images=(4000,),
    budget=Budget(flops=1.6e12, batch_size=32),
    protocol=None,
)
