// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: the known layouts, families and engines, and how to detect which one a checkpoint uses.
#ifndef SAFEFUSE_MODELS_HPP
#define SAFEFUSE_MODELS_HPP

#include <safefuse/detect/detect.hpp>
#include <safefuse/detect/detect_experts.hpp>
#include <safefuse/detect/find_model.hpp>
#include <safefuse/detect/stored_form.hpp>
#include <safefuse/detect/stored_spelling.hpp>
#include <safefuse/detect/unknown_experts.hpp>
#include <safefuse/models/engines.hpp>
#include <safefuse/models/registry.hpp>
#include <safefuse/models/standard.hpp>
#include <safefuse/models/transformers.hpp>

#endif
