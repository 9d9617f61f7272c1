/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The built-in backend: LR pictures up-sampled by bicubic, on the CPU.
 */
#ifndef TDS_BACKENDS_BICUBIC_H
#define TDS_BACKENDS_BICUBIC_H

#include "backends/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

const tds_backend *tds_bicubic_backend(void);

#ifdef __cplusplus
}
#endif

#endif /* TDS_BACKENDS_BICUBIC_H */
