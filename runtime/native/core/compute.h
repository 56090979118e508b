/* The encoder and the search for one instruction set: kernels_plain.c, kernels_avx2.c and kernels_avx512.c include this
   after setting LANES, and give the result a name. */
#include "../kernels/vectors.h"

#include "../kernels/products.h"

#ifdef WHOLE
#include "../kernels/linear_dots.h"
#else
#include "../kernels/linear.h"
#endif

#include "attention.h"

#include "encoder.h"

#include "beams.h"

#include "decoder.h"

#include "reading.h"

#include "search.h"
