"""What a molecule is: bonds, charge, Lewis structure; and which operator was trained for it."""
