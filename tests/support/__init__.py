"""What the tests are built with: worlds, clusters, load, checkers."""
