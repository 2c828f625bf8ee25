// Catch2's main, compiled once for all files of this folder.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
