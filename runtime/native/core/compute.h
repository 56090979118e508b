/* The encoder and the search for one instruction set: each file of ../kernels/ defines LANES, includes this, and names the
   result. */
#include "../kernels/vectors.h"

#include "../kernels/products.h"

#ifdef INT8_PRODUCTS
#include "../kernels/linear_int8.h"
#else
#include "../kernels/linear.h"
#endif

#include "attention.h"

#include "encoder.h"

#include "beams.h"

#include "student_decoder.h"

#include "llama_decoder.h"

#include "search.h"
