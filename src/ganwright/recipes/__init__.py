"""How each kind of GAN trains, and the registry of recipes."""

from ganwright.recipes.registry import RecipeInfo, find_recipe, recipes, register

__all__ = ["RecipeInfo", "find_recipe", "recipes", "register"]
