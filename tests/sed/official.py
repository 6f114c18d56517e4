"""Weights, texts and images of the published numbers, made by their own recipe."""

import importlib.util
import json
import re

import numpy as np
import torch

from sed.checkpoint import OFFICIAL_PREFIX, official_name


class Golden:
    """One stored result of the official implementation."""

    def __init__(self, folder, name):
        with np.load(folder / f"{name}.npz") as file:
            self.arrays = {key: file[key] for key in file.files if key != "meta"}
            self.meta = json.loads(str(file["meta"]))

    def __getitem__(self, name):
        return torch.from_numpy(np.asarray(self.arrays[name]))

    def __contains__(self, name):
        return name in self.arrays

    def sliced(self, name, tensor):
        """Return `tensor` cut down as the stored array of that name is."""
        slices = self.meta["slices"]
        family = re.sub(r"\d$", "", name)
        wanted = slices.get(name, slices.get(family, "all"))
        for step in wanted.split(" then "):
            where, _, stride = step.partition("spatial ")
            index = re.search(r"\[(.*)\]", where)
            if index:
                tensor = eval(f"tensor[{index[1]}]", {"tensor": tensor})
            if stride:
                every = int(stride.strip(" ,").removeprefix("::"))
                tensor = tensor[..., ::every, ::every]
        return tensor


def load_recipe(folder):
    """Return the recipe module that lies beside the numbers."""
    spec = importlib.util.spec_from_file_location("recipe", folder / "recipe.py")
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    return recipe


def fill(module, recipe, prefix, seed, *, ours="", theirs="", centre_tap=False):
    """Give a module of ours the recipe's weights, under the authors' names.

    `ours` and `theirs` say where the module stands in the whole model.
    """
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            key = prefix + official_name(ours + name).removeprefix(theirs)
            value = recipe.weight(key, tuple(tensor.shape), seed)
            if centre_tap and value.ndim == 4 and value.shape[-1] > 1:
                value = recipe.center_tap(key, value, recipe.is_convt(key))
            tensor.copy_(torch.from_numpy(value))
    return module


def recipe_state(model, recipe, seed=0):
    """Return a state dict as the authors' files hold it, logit_scale included."""
    names = [official_name(name) for name in model.state_dict()]
    shapes = [tuple(tensor.shape) for tensor in model.state_dict().values()]
    state = {
        OFFICIAL_PREFIX + name: torch.from_numpy(recipe.weight(OFFICIAL_PREFIX + name, shape, seed))
        for name, shape in zip(names, shapes, strict=True)
    }
    key = OFFICIAL_PREFIX + "clip_model.logit_scale"
    state[key] = torch.from_numpy(np.asarray(recipe.weight(key, (), seed)))
    return state
