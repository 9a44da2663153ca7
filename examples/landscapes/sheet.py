"""Pictures of `reelmill generate` on one sheet, each over its prompt: python sheet.py SHEET.png PICTURE.png ..."""

import json
import sys
import textwrap

from PIL import Image, ImageDraw, ImageFont

SIDE, TEXT, ACROSS = 192, 58, 4

sheet_file, *files = sys.argv[1:]
down = -(-len(files) // ACROSS)
sheet = Image.new("RGB", (ACROSS * SIDE, down * (SIDE + TEXT)), "white")
draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
for place, file in enumerate(sorted(files)):
    with Image.open(file) as picture:
        prompt = json.loads(picture.text["reelmill"])["prompt"]
        shown = picture.resize((SIDE - 8, SIDE - 8), Image.Resampling.BICUBIC)
    x, y = SIDE * (place % ACROSS), (SIDE + TEXT) * (place // ACROSS)
    sheet.paste(shown, (x + 4, y + 4))
    draw.multiline_text((x + 6, y + SIDE), "\n".join(textwrap.wrap(prompt, 27)), fill=(40, 40, 40), font=font)
sheet.save(sheet_file, optimize=True)
print(sheet_file)
