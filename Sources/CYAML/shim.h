/* libyaml as Swift sees it: its event parser, for MeshConfig. */
#pragma once
#include <yaml.h>
