"""A training with the Trainer of Hugging Face on a mixture: `pretraining_job.py MIXTURE OUT KILLED_AT`; 0: never.

It saves its state every 40 steps, goes on from the newest state where there is one, and writes each batch that it saw
to OUT/batches, with its epoch and its number in the epoch, and to OUT/log, with its loss.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import tamis
from tamis.features.decoder import Decoder, build
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

BATCH, CONTEXT, STEPS, SAVED_EVERY = 8, 128, 480, 40
SHAPE = Decoder(depth=2, width=64, heads=2, context=CONTEXT)


def dataset(folder):
    return tamis.torch_dataset(folder, CONTEXT, seed=3, batch_size=BATCH, rank=0, world=1, last="pad")


class Logged(Trainer):
    """A Trainer that writes down what it sees, and that may be killed."""

    def training_step(self, model, inputs, *rest, **options):
        loss = super().training_step(model, inputs, *rest, **options)
        step, out = self.state.global_step, Path(self.args.output_dir)
        epoch, number = divmod(step, self.batches)
        seen = np.stack([inputs["input_ids"].numpy(), inputs["labels"].numpy()])
        np.save(out / "batches" / f"{epoch}-{number:05d}.npy", seen)
        digest = hashlib.sha256(seen.tobytes()).hexdigest()[:16]
        with (out / "log").open("a") as log:
            log.write(f"{step} {self.train_dataset.epoch} {digest} {loss.item():.9g}\n")
        if step == self.killed_at:
            os.kill(os.getpid(), 9)
        return loss


def main():
    folder, out, killed_at = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    (out / "batches").mkdir(parents=True, exist_ok=True)
    data = dataset(folder)
    arguments = TrainingArguments(
        str(out), per_device_train_batch_size=BATCH, max_steps=STEPS, save_steps=SAVED_EVERY, save_total_limit=2,
        dataloader_num_workers=2, ignore_data_skip=True, learning_rate=1e-3, use_cpu=True, disable_tqdm=True,
        report_to=[], seed=1,
    )  # fmt: skip
    trainer = Logged(model=build(SHAPE, 8192, seed=1), args=arguments, train_dataset=data)
    trainer.killed_at, trainer.batches = killed_at or None, -(-data.n_samples // BATCH)
    last = get_last_checkpoint(str(out))
    if last:
        step = json.loads(Path(last, "trainer_state.json").read_text())["global_step"]
        epoch, number = divmod(step, trainer.batches)
        data.load_state_dict({"epoch": epoch, "samples_seen": number * BATCH})
    trainer.train(resume_from_checkpoint=last)


if __name__ == "__main__":
    main()
