// The smallest program that maps, verifies and runs an archive on local-sync: `minimal FILE.ingot` runs function 0 with
// inputs of ones, prints the first output's first elements, and refuses what is corrupt (exit status 1). The size test
// links it to libc only, strips it and holds it to its budget.
#include <ingot/ingot.h>

#include <stdio.h>
#include <stdlib.h>

static int complain(const ingot_error_t *error) {
  fprintf(stderr, "%s: %s\n", ingot_code_name(error->code), error->message);
  return 1;
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  ingot_error_t error;
  ingot_archive_t *archive = NULL;
  ingot_instance_t *instance = NULL;
  ingot_device_t *device = NULL;
  ingot_session_t *session = NULL;
  const char *uri = "local-sync";
  if (ingot_archive_map(NULL, argv[1], &archive, &error) || ingot_instance_create(NULL, &instance, &error) ||
      ingot_device_open(instance, &uri, 1, NULL, &device, &error) ||
      ingot_session_prepare(device, archive, &session, &error))
    return complain(&error);
  // One f32 input and one output of 16 elements: what the test's archive has.
  static float in[16], out[16];
  for (int i = 0; i < 16; ++i) in[i] = 1;
  ingot_tensor_t input = {in, sizeof in, NULL, 0, INGOT_ELEMENT_TYPE_F32, 1, {16}};
  ingot_tensor_t output = {out, sizeof out, NULL, 0, INGOT_ELEMENT_TYPE_F32, 1, {-1}};
  const ingot_code_t code = ingot_session_run(session, 0, &input, 1, &output, 1, &error);
  if (code) return complain(&error);
  for (int i = 0; i < 16; ++i) printf("%g\n", (double)out[i]);
  ingot_session_release(session);
  ingot_device_release(device);
  ingot_instance_release(instance);
  ingot_archive_release(archive);
  return 0;
}
