// Catch2's entry point for the importer's tests.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
