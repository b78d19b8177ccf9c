"""Systems that know what will arrive: how little CPU each container could have lived with.

They bound what the others can reach, each under the constraint in its name. Nothing here is an
agent that could be built.
"""
