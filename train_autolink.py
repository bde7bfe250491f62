"""Train stage one: accelerate launch train_autolink.py [--data FOLDER] [--out runs/mine]."""

from autolink.train import main

if __name__ == "__main__":
    main()
