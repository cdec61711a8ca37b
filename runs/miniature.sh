#!/usr/bin/env bash
# The whole flow on the drawn world, from nothing to the figures in docs/results/miniature.md.
# Hours on two cores; every step can be killed and goes on where it was when the script is run again.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_WAIT_POLICY=PASSIVE
work=build/miniature

# 1. The models: CLIP, autoencoder, UNet, pipeline, its four-step LoRA, captions that say what is absent, NegationCLIP,
#    CLIPSeg, SAM, judge.
negclip miniature build --out "$work"

# 2. Other ways to train the text tower, to compare with (the paper's recipe, the frozen host's score), and other seeds.
train() {
    negclip train --captions "$work/captioned/negated_captions.json" --images "$work/captioned/images" \
        --clip "$work/clip" --host "$work/stable-diffusion" --objective "$1" --seed "$2" --out "$work/arms/$3"
}
train paper 0 paper
train host 0 host
train tokens 1 seed1
train tokens 2 seed2

# 3. Does it understand? Held-out pictures and phrasings.
others=""
for arm in paper host seed1 seed2; do others="$others,$arm=$work/arms/$arm"; done
negclip eval valse-existence,negrefcocog,retrieval,celeba --arms "vanilla,negationclip$others" --out "$work/eval"
#    The paper's ablation: which captions, and which objective, with three seeds each.
mkdir -p "$work/ablation" && ln -sfn ../captioned "$work/ablation/captioned"
python runs/ablation.py "$work/ablation" --tokens "$work/negationclip,$work/arms/seed1,$work/arms/seed2"
#    Beside corrections that need no training, and scorers that see no picture.
negclip eval valse-existence,negrefcocog,negbench-mcq --limit 300 --out "$work/eval-rivals" \
    --arms vanilla,negationclip,difference,projection,deo,steering,negationclip-projection,negationclip-deo
negclip eval valse-existence,negrefcocog,retrieval,celeba,negbench-mcq --out "$work/eval-blind" \
    --arms vanilla,blind-text,blind-constant,blind-random

# 4. Does it draw what was asked for, and nothing that was denied? Held-out prompts, in pairs.
arms="vanilla,affirmative-rest,negationclip,negationclip-no-gate,negative-prompt,both$others"
negclip eval t2i-negation --arms "$arms" --limit 560 --steps 10 --out "$work/eval-pictures"
negclip eval t2i-negation --arms "$arms" --limit 560 --steps 10 --guidance-scale 1 --out "$work/eval-pictures"
negclip eval t2i-negation --lora "$work/few-steps" --limit 560 --out "$work/eval-few-steps" \
    --arms vanilla,affirmative-rest,negationclip,negative-prompt,nag,vsf
#    And what prompts without negation ask for?
negclip eval geneval --arms vanilla,negationclip,negationclip-no-gate --pictures 2 --steps 10 --out "$work/eval-asked"

# 5. Does it find "the man without a hat", and nothing where there is none? Refined: sharpened by Segment Anything.
negclip eval refcocog-negated,refcocog,grefcoco --out "$work/eval-masks" \
    --arms vanilla,negationclip,negationclip-no-gate,vanilla-refined,negationclip-refined,negationclip-proposed

# 6. What could a perfect tower draw, how far is the judge to be trusted, and what do pairs look like that nobody picked?
python runs/target_states.py miniature "$work/clip" "$work/captioned/negated_captions.json"
python runs/judge_against_people.py docs/results/labelled/labels.json
python runs/unpicked.py "$work/unpicked.png"

# 7. What ships: half precision, 50 MB at most.
for part in clip negationclip stable-diffusion few-steps clipseg sam judge; do
    rm -rf "negclip_core/miniature/$part" && cp -r "$work/$part" negclip_core/miniature/
done
