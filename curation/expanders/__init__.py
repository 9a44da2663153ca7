"""Expanders: an item's bytes in, samples with decoded frames out; they run inside the untrusted child.

An expander is a generator function `(source, options) -> messages`, named in a recipe as `module:function`. It yields

- `({"type": "sample", "start_s", "end_s", "width", "height", "fps"}, {"images", "times", "runs"})` for each sample,
  sizes as displayed at full resolution, arrays as in `interfaces.Frames`;
- `({"type": "item", ...}, {})` with facts of the item (width, height, fps, duration_s, codec, sha256), once;
- `({"type": "tick"}, {})` at least every few seconds of work, so that hanging and working are told apart; `wire.tick`
  makes one that says how far in the item the work is;

and raises `reelmill.errors.Refused("keyword: facts")` for an item that cannot be used.
"""
