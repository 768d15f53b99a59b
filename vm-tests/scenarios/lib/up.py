"""`python3 -m lib.up NAME`: a Ready node of that name, for the scenarios that share one and for a shell."""

import sys

from .node import Node

node = Node(sys.argv[1])
node.make()
node.boot()
