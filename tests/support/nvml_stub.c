/* A libnvidia-ml.so.1 that answers from a file, read anew at every question:
   INIT COUNT, then a line for each GPU: LOST USED TOTAL UTIL TEMPERATURE POWER LIMIT CLOCK MIG PID PID_USED.
   -1 is what this GPU does not support; LOST is 1 for a GPU that fell off the bus; INIT is what nvmlInit returns. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, SMALL = 7, LOST = 15 };
typedef struct { long lost, used, total, util, temperature, power, limit, clock, mig, pid, pid_used; } Gpu;
typedef struct { unsigned int pid; unsigned long long used; unsigned int instance, compute; } Process;

static int initialised_since_lost[8];

static int read_all(int *init, Gpu *gpus) {
    int count = 0;
    FILE *file = fopen(getenv("NVML_STUB"), "r");
    if (!file || fscanf(file, "%d %d", init, &count) != 2) abort();
    for (int i = 0; i < count; i++) {
        Gpu *g = &gpus[i];
        if (fscanf(file, "%ld %ld %ld %ld %ld %ld %ld %ld %ld %ld %ld", &g->lost, &g->used, &g->total, &g->util,
                   &g->temperature, &g->power, &g->limit, &g->clock, &g->mig, &g->pid, &g->pid_used) != 11) abort();
    }
    fclose(file);
    return count;
}

/* A handle is the GPU's index + 1; an instance's is 100 more. */
static int look(void *device, Gpu *gpu) {
    Gpu gpus[8];
    int init, index = (int)((size_t)device % 100) - 1, count = read_all(&init, gpus);
    if (index < 0 || index >= count) return INVALID;
    *gpu = gpus[index];
    if (gpu->lost) { initialised_since_lost[index] = 0; return LOST; }
    return initialised_since_lost[index] ? OK : LOST;
}

int nvmlInitWithFlags(unsigned int flags) {
    Gpu gpus[8];
    int init;
    read_all(&init, gpus);
    for (int i = 0; i < 8; i++) initialised_since_lost[i] = 1;
    return init;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return code == LOST ? "GPU is lost" : "some \x1b[2J error"; }
int nvmlDeviceGetCount_v2(unsigned int *count) { Gpu g[8]; int init; *count = read_all(&init, g); return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) { *device = (void *)(size_t)(index + 1); return OK; }

int nvmlDeviceGetName(void *device, char *name, unsigned int length) {
    Gpu g; int code = look(device, &g);
    snprintf(name, length, "Stub\x1b]0;x\x07 RTX %zu%s", (size_t)device % 100, (size_t)device > 100 ? " MIG 1g.5gb" : "");
    return code;
}
int nvmlDeviceGetUUID(void *device, char *uuid, unsigned int length) {
    Gpu g; int code = look(device, &g);
    snprintf(uuid, length, "GPU-%04zu", (size_t)device);
    return code;
}
int nvmlDeviceGetMemoryInfo(void *device, unsigned long long *total_free_used) {
    Gpu g; int code = look(device, &g);
    if (code) return code;
    if (g.used < 0) return NOT_SUPPORTED;
    total_free_used[0] = g.total; total_free_used[1] = g.total - g.used; total_free_used[2] = g.used;
    return OK;
}
static int number(void *device, long value, unsigned int *out) {
    Gpu g; int code = look(device, &g);
    if (code) return code;
    if (value < 0) return NOT_SUPPORTED;
    *out = (unsigned int)value;
    return OK;
}
#define FIELD(name, field) Gpu g; int code = look(device, &g); return code ? code : number(device, g.field, out)
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
    Gpu g;
    int code = look(device, &g);
    if (code) return code;
    *major = 8;
    *minor = 6;
    return OK;
}
int nvmlSystemGetCudaDriverVersion(int *version) { *version = 12080; return OK; }
int nvmlDeviceGetUtilizationRates(void *device, unsigned int *out) { FIELD(util, util); }
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned int *out) { FIELD(temperature, temperature); }
int nvmlDeviceGetPowerUsage(void *device, unsigned int *out) { FIELD(power, power); }
int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned int *out) { FIELD(limit, limit); }
int nvmlDeviceGetClockInfo(void *device, int type, unsigned int *out) { FIELD(clock, clock); }
int nvmlDeviceGetMigMode(void *device, unsigned int *now, unsigned int *pending) {
    Gpu g; int code = look(device, &g);
    if (code) return code;
    if (g.mig < 0) return NOT_SUPPORTED;
    *now = *pending = g.mig > 0;
    return OK;
}
int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned int *count) { *count = 7; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned int index, void **instance) {
    Gpu g; int code = look(device, &g);
    if (code) return code;
    if ((long)index >= g.mig) return NOT_FOUND;
    *instance = (void *)((size_t)device + 100 * (index + 1));
    return OK;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned int *count, Process *processes) {
    Gpu g; int code = look(device, &g);
    if (code) return code;
    if (g.pid < 0) return NOT_SUPPORTED;
    if (g.pid == 0) { *count = 0; return OK; }
    if (!processes || *count < 1) { *count = 1; return SMALL; }
    *count = 1;
    processes[0].pid = (unsigned int)g.pid;
    processes[0].used = g.pid_used < 0 ? ~0ULL : (unsigned long long)g.pid_used;
    return OK;
}
