/* A driver library that computes in this computer's memory, and fails as STUB_CUDA says: hangs, dies, wrong, error. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is(const char *what) { const char *w = getenv("STUB_CUDA"); return w && !strcmp(w, what); }

int cuInit(unsigned flags) {
    if (is("hangs")) for (;;) pause();
    if (is("dies")) abort();
    return 0;
}
int cuDeviceGetCount(int *count) { *count = atoi(getenv("STUB_GPUS") ? getenv("STUB_GPUS") : "1"); return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuCtxCreate_v2(void **context, unsigned flags, int device) { *context = malloc(1); return is("error") ? 46 : 0; }
int cuCtxDestroy_v2(void *context) { free(context); return 0; }
int cuMemAlloc_v2(uint64_t *address, size_t size) { *address = (uint64_t)(uintptr_t)malloc(size); return 0; }
int cuMemFree_v2(uint64_t address) { free((void *)(uintptr_t)address); return 0; }
int cuMemsetD8_v2(uint64_t address, unsigned char byte, size_t size) {
    memset((void *)(uintptr_t)address, byte, size);
    if (is("wrong")) ((char *)(uintptr_t)address)[size / 2] ^= 1;
    return 0;
}
int cuMemcpyDtoH_v2(void *to, uint64_t address, size_t size) {
    memcpy(to, (void *)(uintptr_t)address, size);
    return 0;
}
int cuGetErrorName(int code, const char **name) { *name = "CUDA_ERROR_DEVICE_UNAVAILABLE"; return code != 46; }
