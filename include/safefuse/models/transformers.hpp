// SPDX-License-Identifier: MIT
// Copyright (c) 2026 safefuse contributors
// safefuse: all families. A family declares the form of the experts on the hub, their form in
// transformers 5.24.0 (conversion_mapping.py), other modules with different forms, and renames.
// families/plain.hpp has the families with standard layouts. A family with its own layouts has its
// own file. tests/interop/families.py compares every model type with what transformers loads.
#ifndef SAFEFUSE_MODELS_TRANSFORMERS_HPP
#define SAFEFUSE_MODELS_TRANSFORMERS_HPP

#include <safefuse/models/families/aria.hpp>
#include <safefuse/models/families/deepseek_v4.hpp>
#include <safefuse/models/families/dots3_note.hpp>
#include <safefuse/models/families/ernie4_5_vl_moe.hpp>
#include <safefuse/models/families/gpt_oss.hpp>
#include <safefuse/models/families/hy_v4.hpp>
#include <safefuse/models/families/inkling.hpp>
#include <safefuse/models/families/kimi_k25.hpp>
#include <safefuse/models/families/lara_mini.hpp>
#include <safefuse/models/families/longcat_flash.hpp>
#include <safefuse/models/families/mistral_large4.hpp>
#include <safefuse/models/families/nemo_speechlm.hpp>
#include <safefuse/models/families/plain.hpp>
#include <safefuse/models/families/qwen4_exp.hpp>
#include <safefuse/models/families/sarvam_moe.hpp>
#include <safefuse/models/families/step3p7.hpp>

#endif
