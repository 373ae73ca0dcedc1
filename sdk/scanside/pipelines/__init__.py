"""The pipelines that come with Scanside, as YAML files."""
