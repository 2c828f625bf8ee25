// Reads a PNG and makes the recogniser's input of it. Nothing here knows of Ingot.
#pragma once

#include <string>
#include <vector>

// Interleaved 8-bit RGB rows, top first.
struct Picture {
  int width = 0, height = 0;
  std::vector<unsigned char> rgb;
};

// Reads any PNG, transparency over white. False, and the reason in `error`, where it cannot.
bool read_png(const std::string &path, Picture &out, std::string &error);

// The tensor f32[1, 3, 48, W] of a line of text: scaled to 48 rows with its proportions kept, planes in the order blue,
// green, red, values from -1 (black) to 1 (white). W is at least 16 and at most `widest`; *width receives it.
std::vector<float> recogniser_input(const Picture &picture, int widest, int *width);
