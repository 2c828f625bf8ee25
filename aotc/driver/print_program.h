// --emit=program: a variant's functions as text (slots, expressions, commands).
#pragma once

#include <string>

#include "aotc/archive/program.h"

namespace ingot::aotc {

std::string print_variant(const archive::Variant &variant);

} // namespace ingot::aotc
