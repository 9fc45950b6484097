"""Self-labels for segmentation on real data: does a handful of annotated generated façades teach a segmenter?

stylegan2 is trained on the 400 training photos at 64x64 (never on the test photos); 16 of its pictures are annotated; a
label head learns from them and makes pairs of image and mask; a U-Net trained on the pairs is compared with the same
U-Net trained on the 16 alone, on the 106 real test photos. Classes of the CMP Facades are merged to four.

NO HUMAN annotated anything here: an oracle paints the 16 masks, a U-Net trained on all 400 real training pairs. The
oracle's own mIoU on the test photos, and the head's agreement with it on new generated pictures, stand in the result.

Each stage is a folder under --out and is not repeated by a second call.

usage: python benchmarks/segmentation.py --data FOLDER --out FOLDER [--minutes 60] [--n 1000] [--seeds 5] [--save]
       FOLDER of data holds facades-pairs.zip
       --smoke: all of it in three minutes or less, to see that it runs; its numbers mean nothing
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import time
import zipfile
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage
import scipy.stats
import torch
from PIL import Image

import ganwright as gw
from ganwright.errors import RunError
from ganwright.samples import ImageSamples, save_png
from ganwright.segmenting import (
    HeadSettings,
    LabelHead,
    Pairs,
    SegmentClasses,
    SegmenterSettings,
    SmallUNet,
    load_segmenter,
    make_dataset,
    make_pictures,
    open_pairs,
    train_head,
    train_segmenter,
    write_mask,
)
from ganwright.segmenting.comparing import compare
from ganwright.segmenting.generator import DATASET
from ganwright.segmenting.iou import confusion, iou_per_class, mean_iou
from ganwright.segmenting.making import read_manifest
from ganwright.segmenting.segmenter import save_segmenter

SIDE = 64
CLASSES = SegmentClasses(
    ("other", "wall", "window", "door"), ((0, 0, 0), (145, 30, 180), (0, 130, 200), (245, 130, 48))
)
PALETTE: tuple[tuple[tuple[int, int, int], str], ...] = (
    ((0, 0, 222), "other"),  # background
    ((0, 48, 255), "wall"),
    ((0, 128, 255), "window"),
    ((0, 207, 255), "door"),
    ((32, 255, 224), "wall"),  # cornice
    ((112, 255, 142), "wall"),  # sill
    ((192, 255, 63), "wall"),  # balcony
    ((255, 240, 0), "window"),  # blind
    ((255, 159, 0), "wall"),  # decoration
    ((255, 80, 0), "wall"),  # moulding
    ((255, 0, 0), "wall"),  # pillar
    ((174, 0, 0), "door"),  # shop
)
"""Colours of the 12 CMP classes as they are in these files (medians of their flat areas), and what they become here."""


def to_mask(labels: np.ndarray) -> np.ndarray:
    """A JPEG label map (256, 256, 3) to a mask (64, 64): nearest CMP colour, merged, majority of each 4x4 block.

    Between two areas JPEG blends their colours into a third class's; a pixel far from every class's colour takes the
    class of the nearest pixel that is not.
    """
    colours = np.array([colour for colour, _ in PALETTE])
    merged = np.array([CLASSES.names.index(name) for _, name in PALETTE])
    distance = np.square(labels[:, :, None].astype(int) - colours).sum(-1)
    blended = distance.min(-1) > 30**2
    y, x = scipy.ndimage.distance_transform_edt(blended, return_distances=False, return_indices=True)
    one_hot = np.eye(len(CLASSES))[merged[distance.argmin(-1)][y, x]]
    factor = len(labels) // SIDE
    return one_hot.reshape(SIDE, factor, SIDE, factor, -1).sum((1, 3)).argmax(-1).astype(np.uint8)


def unpack(archive: Path, out: Path) -> None:
    """photos/ for the GAN, train/ and test/ as pairs."""
    if (out / "test" / "classes.yaml").exists():
        return
    with zipfile.ZipFile(archive) as packed:
        for name in sorted(packed.namelist()):
            part = Path(name).parent.name
            if part not in ("train", "test") or not name.endswith(".jpg"):
                continue
            with Image.open(io.BytesIO(packed.read(name))) as image:
                both = np.asarray(image.convert("RGB"))
            photo = Image.fromarray(both[:, :256]).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            save_png(out / part / f"{Path(name).stem}.png", np.asarray(photo))
            write_mask(out / part / f"{Path(name).stem}.mask.png", to_mask(both[:, 256:]), CLASSES)
            if part == "train":
                save_png(out / "photos" / f"{Path(name).stem}.png", np.asarray(photo))
    for part in ("train", "test"):
        CLASSES.save(out / part)


def train_gan(photos: Path, folder: Path, args: argparse.Namespace) -> float:
    """Train or train on, until --minutes are used; returns thousands of images seen."""
    try:
        run = gw.load_run(folder)
    except RunError:
        run = gw.train(
            "stylegan2",
            photos,
            out=folder,
            resolution=SIDE,
            held_out=0.0,
            flip=True,
            batch_size=args.batch,
            steps=10**6,
            max_minutes=args.minutes,
            augment="ada",
            channel_base=args.channel_base,
            channel_max=args.channel_max,
            evaluate_every=-1,
            checkpoint_every=500,
            sample_every=1000,
            accelerator=args.device,
            write_html=False,
        )
    step = run.checkpoints()[-1][0]
    return step * run.config["settings"]["batch_size"] / 1000


def make_oracle(train: Pairs, path: Path, settings: SegmenterSettings, device: str) -> SmallUNet:
    """The stand-in for a human annotator."""
    if not path.exists():
        oracle = train_segmenter(train, settings, seed=1000, device=device, description="oracle")
        save_segmenter(oracle, train, path)
    return load_segmenter(path)[0].to(device)


def agreement(head: LabelHead, oracle: SmallUNet, device: str, n: int) -> dict[str, Any]:
    """Head against oracle on new generated pictures, and whether uncertain pictures are those they disagree on."""
    generator = head.generator(device=device)
    images, masks, uncertain = [], [], []
    for start in range(0, n, 16):
        # Another seed than that of the data set.
        w, _ = generator.draw(range(start, min(start + 16, n)), seed=4242, stream=DATASET, truncation=head.truncation)
        made, maps = generator.features(w)
        for i in range(len(made)):
            mask, uncertainty = head.label([m[i] for m in maps], (SIDE, SIDE))
            masks.append(mask)
            uncertain.append(uncertainty)
        images.append(made)
    truth = oracle.predict(np.concatenate(images))
    counts = np.stack([confusion(t, p, len(CLASSES)) for t, p in zip(truth, masks, strict=True)])
    wrong = [(t != m).mean() for t, m in zip(truth, masks, strict=True)]
    return {
        "n": n,
        "miou": float(mean_iou(counts.sum(0))),
        "rank_correlation_of_uncertainty_and_error": float(scipy.stats.spearmanr(uncertain, wrong).statistic),
    }


def real_score(network: SmallUNet, test: Pairs) -> dict[str, Any]:
    predicted = network.predict(test.images)
    counts = sum(confusion(t, p, len(CLASSES)) for t, p in zip(test.masks, predicted, strict=True))
    each = dict(zip(CLASSES.names, iou_per_class(np.asarray(counts)).tolist(), strict=True))
    return {"miou": float(mean_iou(np.asarray(counts))), "iou": each}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=60.0, help="of stylegan2's training")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--channel-base", type=int, default=4096)
    parser.add_argument("--channel-max", type=int, default=128)
    parser.add_argument("--pictures", type=int, default=16, help="annotated pictures")
    parser.add_argument("--truncation", type=float, default=0.7)
    parser.add_argument("--n", type=int, default=1000, help="pairs")
    parser.add_argument("--seeds", type=int, default=5, help="times each segmenter is trained")
    parser.add_argument("--steps", type=int, default=1000, help="of each segmenter")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/segmentation-<device>.json")
    args = parser.parse_args()
    head_settings, candidates, width = HeadSettings(), None, SegmenterSettings().width
    if args.smoke:
        args.minutes, args.n, args.seeds, args.steps, candidates, width = 0.4, 24, 1, 20, 32, 8
        args.channel_base, args.channel_max = 1024, 32
        head_settings = HeadSettings(members=3, steps=60)
    started, out = time.monotonic(), args.out
    unpack(args.data / "facades-pairs.zip", out)
    kimg = train_gan(out / "photos", out / "run", args)
    train, test = (open_pairs(out / part, CLASSES) for part in ("train", "test"))
    segmenter = SegmenterSettings(steps=args.steps, width=width)
    oracle = make_oracle(train, out / "oracle.safetensors", replace(segmenter, steps=2 * args.steps), args.device)
    if not (out / "pictures" / "pictures.yaml").exists():
        make_pictures(
            out / "run",
            out / "pictures",
            n=args.pictures,
            truncation=args.truncation,
            candidates=candidates,
            classes=CLASSES,
            device=args.device,
        )
        plain = sorted(p for p in (out / "pictures").glob("0*.png") if ".mask" not in p.name)
        images = np.stack([np.asarray(Image.open(path)) for path in plain])
        for path, mask in zip(plain, oracle.predict(images), strict=True):
            write_mask(path.with_name(f"{path.stem}.mask.png"), mask, CLASSES)
    if not (out / "head" / "head.yaml").exists():
        train_head(out / "run", out / "pictures", out / "head", settings=head_settings, device=args.device)
    head = LabelHead.load(out / "head")
    make_dataset(out / "head", out / "pairs", n=args.n, device=args.device)
    generated, few = open_pairs(out / "pairs", CLASSES), open_pairs(out / "pictures", CLASSES)
    verdict, network, sheet = compare(
        generated, few, test, settings=segmenter, seeds=range(args.seeds), device=args.device
    )
    print(verdict)
    sheet.save_overview(out / "verdict.png")
    ImageSamples(few.images).save_overview(out / "annotated.png")
    save_segmenter(network, generated, out / "segmenter.safetensors")
    name = (
        torch.cuda.get_device_name() if args.device == "cuda" else f"{platform.processor() or platform.machine()} CPU"
    )
    result = {
        "date": date.today().isoformat(),
        "device": name,
        "torch": torch.__version__,
        "settings": {key: str(value) for key, value in vars(args).items() if key not in ("data", "out", "save")},
        "annotator": "oracle: U-Net trained on all 400 real training pairs, no human",
        "gan_kimg": kimg,
        "oracle_on_real_test": real_score(oracle, test),
        "head_leave_one_image_out": head.estimate.to_dict(),
        "head_against_oracle_on_new_pictures": agreement(head, oracle, args.device, min(200, args.n)),
        "mean_uncertainty_kept": float(np.mean([r["uncertainty"] for r in read_manifest(out / "pairs") if r["kept"]])),
        "verdict": verdict.to_dict(),
        "minutes": round((time.monotonic() - started) / 60, 1),
    }
    (out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({key: result[key] for key in ("gan_kimg", "oracle_on_real_test")}, indent=2))
    if args.save:
        folder = Path(__file__).parent / "results"
        path = folder / f"segmentation-{args.device}.json"
        path.write_text(json.dumps(result, indent=2) + "\n")
        print(path)


if __name__ == "__main__":
    main()
