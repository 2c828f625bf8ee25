// Which sanitizer a test is compiled with: some do less then, or leave out what takes gigabytes.
#pragma once

#if defined(__has_feature) // Clang
#if __has_feature(address_sanitizer)
#define INGOT_ADDRESS_SANITIZER 1
#endif
#if __has_feature(thread_sanitizer)
#define INGOT_THREAD_SANITIZER 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define INGOT_ADDRESS_SANITIZER 1
#endif
#if defined(__SANITIZE_THREAD__)
#define INGOT_THREAD_SANITIZER 1
#endif
