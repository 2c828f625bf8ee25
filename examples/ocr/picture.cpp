// PNG reading through libpng's simplified interface, and resampling with a triangle filter as wide as the reduction
// asks for, so that thin strokes survive.
#include "picture.h"

#include <png.h>

#include <algorithm>
#include <cmath>
#include <cstring>

bool read_png(const std::string &path, Picture &out, std::string &error) {
  png_image image;
  std::memset(&image, 0, sizeof image);
  image.version = PNG_IMAGE_VERSION;
  if (!png_image_begin_read_from_file(&image, path.c_str())) {
    error = path + ": " + image.message;
    return false;
  }
  image.format = PNG_FORMAT_RGB;
  if (image.width == 0 || image.height == 0 || image.width > 32768 || image.height > 32768) {
    error = path + ": a picture of " + std::to_string(image.width) + " x " + std::to_string(image.height) +
            " is not a line of text";
    png_image_free(&image);
    return false;
  }
  out.width = static_cast<int>(image.width);
  out.height = static_cast<int>(image.height);
  out.rgb.resize(PNG_IMAGE_SIZE(image));
  const png_color white = {255, 255, 255};
  if (!png_image_finish_read(&image, &white, out.rgb.data(), 0, nullptr)) {
    error = path + ": " + image.message;
    png_image_free(&image);
    return false;
  }
  return true;
}

namespace {

// Resamples one axis: `count` lines of `from` samples that are `step` floats apart become `to` samples.
// Before: rows of 100 values; after resample(..., 100, 48): rows of 48, each a weighted mean of about 4 neighbours.
std::vector<float> resample_rows(const std::vector<float> &in, int rows, int from, int to) {
  std::vector<float> out(static_cast<size_t>(rows) * to);
  const double scale = static_cast<double>(from) / to, support = std::max(1.0, scale);
  for (int x = 0; x < to; ++x) {
    const double centre = (x + 0.5) * scale;
    const int first = std::max(0, static_cast<int>(std::floor(centre - support)));
    const int last = std::min(from, static_cast<int>(std::ceil(centre + support)));
    std::vector<float> weights;
    double total = 0;
    for (int i = first; i < last; ++i) {
      const double w = std::max(0.0, 1.0 - std::abs(i + 0.5 - centre) / support);
      weights.push_back(static_cast<float>(w));
      total += w;
    }
    for (int row = 0; row < rows; ++row) {
      double sum = 0;
      for (int i = first; i < last; ++i) sum += weights[i - first] * in[static_cast<size_t>(row) * from + i];
      out[static_cast<size_t>(row) * to + x] = static_cast<float>(sum / total);
    }
  }
  return out;
}

std::vector<float> transposed(const std::vector<float> &in, int rows, int columns) {
  std::vector<float> out(in.size());
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < columns; ++c) out[static_cast<size_t>(c) * rows + r] = in[static_cast<size_t>(r) * columns + c];
  return out;
}

} // namespace

std::vector<float> recogniser_input(const Picture &picture, int widest, int *width) {
  constexpr int kRows = 48;
  const int columns =
      std::clamp(static_cast<int>(std::lround(static_cast<double>(picture.width) * kRows / picture.height)), 16, widest);
  *width = columns;
  std::vector<float> tensor;
  for (int channel = 2; channel >= 0; --channel) {
    std::vector<float> plane(static_cast<size_t>(picture.width) * picture.height);
    for (size_t i = 0; i < plane.size(); ++i) plane[i] = picture.rgb[i * 3 + channel] / 127.5f - 1.0f;
    plane = resample_rows(plane, picture.height, picture.width, columns);
    plane = transposed(plane, picture.height, columns);
    plane = resample_rows(plane, columns, picture.height, kRows);
    plane = transposed(plane, columns, kRows);
    tensor.insert(tensor.end(), plane.begin(), plane.end());
  }
  return tensor;
}
