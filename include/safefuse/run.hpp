// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: all that runs plans into memory. Number conversion, threads and device memory are
// opt-in: run/convert.hpp, run/dequantize.hpp, run/parallel.hpp, run/staged.hpp.
#ifndef SAFEFUSE_RUN_HPP
#define SAFEFUSE_RUN_HPP

#include <safefuse/plan/copy_plan.hpp>
#include <safefuse/plan/engine.hpp>
#include <safefuse/plan/plan.hpp>
#include <safefuse/plan/plan_options.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/run/compare_scales.hpp>
#include <safefuse/run/fuse.hpp>
#include <safefuse/run/fuse_model.hpp>
#include <safefuse/run/fuse_range.hpp>
#include <safefuse/run/fuse_scope.hpp>

#endif
