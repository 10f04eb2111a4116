// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: everything for planning: layouts, fields, families as types, and copy plans. It uses no
// files, no JSON and no system calls.
#ifndef SAFEFUSE_PLAN_HPP
#define SAFEFUSE_PLAN_HPP

#include <safefuse/core/config.hpp>
#include <safefuse/core/printable.hpp>
#include <safefuse/core/result.hpp>
#include <safefuse/core/span.hpp>
#include <safefuse/core/text.hpp>
#include <safefuse/core/vector.hpp>
#include <safefuse/core/version.hpp>
#include <safefuse/layout/family.hpp>
#include <safefuse/layout/fields.hpp>
#include <safefuse/layout/layout.hpp>
#include <safefuse/layout/mapping.hpp>
#include <safefuse/layout/mapping_algebra.hpp>
#include <safefuse/layout/rename.hpp>
#include <safefuse/plan/copy_plan.hpp>
#include <safefuse/plan/engine.hpp>
#include <safefuse/plan/model_tensors.hpp>
#include <safefuse/plan/plan.hpp>
#include <safefuse/plan/plan_form.hpp>
#include <safefuse/plan/plan_options.hpp>
#include <safefuse/plan/scopes.hpp>
#include <safefuse/tensor/byte_source.hpp>
#include <safefuse/tensor/dtype.hpp>
#include <safefuse/tensor/slice.hpp>
#include <safefuse/tensor/tensor_range.hpp>
#include <safefuse/tensor/tensor_set.hpp>
#include <safefuse/tensor/tensor_traits.hpp>
#include <safefuse/tensor/tensor_view.hpp>

#endif
