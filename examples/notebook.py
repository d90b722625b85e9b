"""Training in a notebook: `model.fit` with callbacks. Each `# %%` begins a cell (VS Code and Jupytext know them).

The data are those of scripts/quickstart.sh; run it, or `od-eval shapes --output_dir=quickstart/shapes`, first.
"""

# %%
import od_eval  # before anything makes tf.keras Keras 3

pipeline = od_eval.Pipeline.load("pipeline_configs/ssd_mobilenet_v2_96x96.config")
detector = od_eval.Detector(pipeline)
detector.compile()

# %% Training, evaluated at the end of every epoch
import tensorflow as tf  # noqa: E402

MODEL_DIR = "runs/notebook"
EPOCHS, STEPS_PER_EPOCH = 10, 20

history = detector.fit(
    pipeline.train_dataset(),
    epochs=EPOCHS,
    steps_per_epoch=STEPS_PER_EPOCH,
    verbose=2,
    callbacks=[
        od_eval.LossLogger(MODEL_DIR, log_every_n_steps=10),
        od_eval.DetectionEvaluation(pipeline.eval_dataset(), MODEL_DIR),
        od_eval.BestCheckpoint(MODEL_DIR),
        tf.keras.callbacks.EarlyStopping("val_AP", mode="max", patience=5),
        tf.keras.callbacks.CSVLogger(f"{MODEL_DIR}/epochs.csv"),
    ],
)

# %% The metrics of the last evaluation, and of the best
metrics = od_eval.load_metrics(MODEL_DIR)
print({name: metrics["bbox"][name] for name in ("AP", "AP50", "AR100")}, metrics["per_category"])
print(max(history.history["val_AP"]))

# %% The curves as a table
curves = od_eval.load_history(MODEL_DIR)
total_loss = curves[curves.tag == "Loss/total_loss"].pivot_table("value", index="step", columns="run")
print(total_loss)  # total_loss.plot() draws training and evaluation

# %% Back to the best weights
detector.checkpoint().restore(tf.train.latest_checkpoint(f"{MODEL_DIR}/best")).expect_partial()
